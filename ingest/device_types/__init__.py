"""One YAML file is one device type: `<vendor>/<model>.yaml`, with its own examples."""

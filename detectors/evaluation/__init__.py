"""The shipped rules over recorded fires and quiet rooms, scored beside simple detectors."""

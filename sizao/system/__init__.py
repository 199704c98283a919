"""What is wrong with ourselves: noticed by any process, told as signals of kind `system`."""

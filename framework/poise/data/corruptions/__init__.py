"""What cameras, weather and files do to pictures: pure functions, with the severities of CIFAR-10-C."""

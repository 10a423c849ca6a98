"""Signs that an attack finds less than there is: what is looked at beside every robust accuracy, one check a file."""

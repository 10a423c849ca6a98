"""Small recipes that show the hooks which the built-in ones leave alone; for tests."""

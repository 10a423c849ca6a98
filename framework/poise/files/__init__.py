"""Files of arrays and tables that users give and get: read with care, written whole or not at all."""

"""Settings: their sources, their parsing, and the names of the tables. Cheap to import."""

"""Settings: where each value comes from, how it is parsed, and the names of the tables. Cheap to import."""

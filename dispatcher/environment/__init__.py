"""How the outside is read: where values are looked for, and what durations and database URLs mean. Cheap to import."""

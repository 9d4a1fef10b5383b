"""Records and errors that travel between the rooms. They hold no logic beyond their own fields, and import no other
room."""

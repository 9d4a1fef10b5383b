"""Records and errors that all rooms share. They hold no logic beyond their own fields and import no other room."""

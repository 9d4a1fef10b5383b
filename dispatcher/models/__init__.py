"""Records and errors that all packages share. They hold no logic beyond their own fields and import no other one."""

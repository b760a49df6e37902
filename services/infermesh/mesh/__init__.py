"""The hall: what makes a process a member of the mesh. Something enters only when two rooms need it; nothing here
knows a room."""

"""The catalog: everything that must survive, except the bytes of files. `base` is the seam, `sql` puts it together."""

"""What may be stored: pure checks and pure functions over the messages of `infermesh.v1`. Used by the servicers and the
catalog; no clock, no disk, no database."""

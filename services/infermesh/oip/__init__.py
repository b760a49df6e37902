"""Generated from `protos/infermesh/oip` by `make proto`. DO NOT EDIT."""

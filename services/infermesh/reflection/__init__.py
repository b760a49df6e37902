"""Generated from `protos/infermesh/reflection` by `make proto`. DO NOT EDIT."""

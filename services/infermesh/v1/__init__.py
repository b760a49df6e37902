"""Generated from `protos/infermesh/v1` by `make proto`. DO NOT EDIT."""

"""Generated from `protos/infermesh/reflection/v1` by `make proto`. DO NOT EDIT."""

"""Generated from `protos/infermesh/health` by `make proto`. DO NOT EDIT."""

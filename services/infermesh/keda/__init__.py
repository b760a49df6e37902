"""Generated from `protos/infermesh/keda` by `make proto`. DO NOT EDIT."""

"""Generated from `protos/infermesh/oip/v2` by `make proto`. DO NOT EDIT."""

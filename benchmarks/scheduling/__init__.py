"""How good the scheduling is: beside the clairvoyant optimum, beside other planners, beside a balancing oracle."""

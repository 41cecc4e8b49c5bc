"""Learning: training sets that are correct at each point in time, fitting, evaluation, promotion."""

"""What a judgement costs in fleets of several sizes, and what the fleet's tables weigh."""

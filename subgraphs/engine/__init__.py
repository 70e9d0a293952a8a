"""The pure core of Workflow and Execution: definitions, graphs, expressions, runs. No I/O, clock or random."""

"""The pure core shared by Workflow and Execution: definitions, graphs, expressions, runs. No input or output, no clock, no random."""

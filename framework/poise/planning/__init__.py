"""What a run will take before anybody pays for it: passes, memory, traffic, and a modelled time."""

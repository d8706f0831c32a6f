"""Models and trainings on disk: exact resume, safe exports, deployment, exchange with PPO."""

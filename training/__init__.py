"""Learning from data sets: prompts, answers, rewards, metrics, SFT, GRPO, evaluation.

Never imports bpy nor generator.
"""

"""The application that `openenv.yaml` names: TVR_DATASET=data/star uvicorn server:app."""

from star_tvr.training.integrations.openenv import make_app

app = make_app()

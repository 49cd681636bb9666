"""The smallest baselines that have every part of the real ones."""

from tiny import SIZE

from divid_diffusers import DBSE, SPYL


METHODS = {"dbse": DBSE, "spyl": SPYL}
STATIC, DYNAMIC = 6, 5  # widths of the codes: different, so that a mix-up shows
FORMS = {
    "divid": {"block_out_channels": (8, 16), "layers_per_block": 1, "latent_channels": 2, "norm_num_groups": 4},
    "published": {"block_out_channels": (8, 16), "latent_channels": 12},
}


def tiny_baseline(method="dbse", form="divid", **overrides):
    codes = {"static_dim": STATIC, "dynamic_dim": DYNAMIC, "hidden_dim": 7, "sample_size": SIZE, "form": form}
    return METHODS[method](**(codes | FORMS[form] | overrides)).eval()


def loss_options(model):
    """What the loss of this model asks for beyond clips and noise."""
    return {"num_train_clips": 10} if isinstance(model, SPYL) else {}

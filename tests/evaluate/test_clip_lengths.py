"""Tokens of long clips, read in windows."""

import clip_lengths
import torch
from tiny import random_clips, tiny_encoder, tiny_pipeline


@torch.no_grad()
def test_windows_read_every_frame_once_the_first_with_each_and_short_clips_whole():
    encoder = tiny_encoder()
    embeddings = encoder.encode_frames(random_clips(2, 9, seed=5))
    assert torch.equal(clip_lengths.in_windows(encoder, embeddings, 9), encoder.encode_dynamic(embeddings))
    tokens = clip_lengths.in_windows(encoder, embeddings, 4)
    assert tokens.shape == encoder.encode_dynamic(embeddings).shape and tokens.isfinite().all()
    last = encoder.encode_dynamic(torch.cat([embeddings[:, :1], embeddings[:, 6:]], dim=1))[:, -1]
    torch.testing.assert_close(tokens[:, -1], last, atol=1e-5, rtol=0)  # which only the last window sees


def test_a_row_for_each_length(capsys, tmp_path, monkeypatch):
    tiny_pipeline().save_pretrained(tmp_path)

    def small(*arguments, puppets=clip_lengths.Puppets, **options):
        return puppets(*arguments, size=16, **options)

    monkeypatch.setattr(clip_lengths, "Puppets", small)
    words = ["--lengths", "3", "8", "--num_clips=2", "--window=4", "--shown=4", "--num_inference_steps=1"]
    clip_lengths.main(["--model", str(tmp_path), *words])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[-2:]] == ["| 3", "| 8"]
    cells = lines[-2].strip("| ").split(" | ")
    assert cells[1] == cells[2]  # a clip no longer than a window is read whole

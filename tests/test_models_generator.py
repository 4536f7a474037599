"""The network, the codec, the checkpoint and the generator."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.codec import PatchCodec
from models.conditions import LONGEST, tokens
from models.dit import VideoTransformer, attention
from models.flavours import FLAVOURS, network_shape
from models.generator import Generator, SamplerSettings
from models.pretrain import fit_codec, training_clip
from palate import shapes
from palate.errors import CheckpointError, DataError

CAPTIONS = [
    "a red circle moves left, on a white background",
    "two blue squares stay still, on a black background",
    "a cyan cross moves up, left of a yellow triangle that stays still, on a grey background",
]


@pytest.fixture(scope="module")
def codec() -> PatchCodec:
    return fit_codec(FLAVOURS["shapes"], seed=0)


@pytest.fixture
def network() -> VideoTransformer:
    torch.manual_seed(0)
    network = VideoTransformer(network_shape(FLAVOURS["tiny"]))
    for parameter in network.parameters():  # away from its zero start, so that every path matters
        parameter.data += 0.05 * torch.randn_like(parameter)
    return network.eval()


def inputs(network: VideoTransformer) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(3, network.shape.tokens, network.shape.channels, generator=g)
    return x, torch.tensor([0.2, 0.5, 0.9]), tokens(CAPTIONS)


@torch.no_grad()
def test_attention_is_joint_over_space_and_time(network: VideoTransformer) -> None:
    x, t, words = inputs(network)
    before = network(x, t, words)
    last = network.shape.tokens - 1  # bottom right of the last frames
    x[:, last] += 1.0
    moved = (network(x, t, words) - before).abs().amax(dim=(0, 2))
    assert moved[0] > 1e-5  # the top left of the first frames knows
    assert (moved > 1e-6).all()


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_attention_and_its_gradient_in_either_precision_are_those_of_float64(dtype: torch.dtype, close: float) -> None:
    g = torch.Generator().manual_seed(3)
    drawn = [torch.randn(2, 4, 48, 32, generator=g) for _ in range(4)]

    def answers(wide: torch.dtype) -> list[torch.Tensor]:
        q, k, v = (one.to(dtype).to(wide).requires_grad_() for one in drawn[:3])
        with torch.autocast("cpu", dtype, enabled=wide == torch.bfloat16):
            out = attention(q, k, v)
        assert out.dtype == wide
        return [out, *torch.autograd.grad(out, (q, k, v), drawn[3].to(wide))]

    for told, truth in zip(answers(dtype), answers(torch.float64), strict=True):
        assert (told.double() - truth).norm() < close * truth.norm()


@torch.no_grad()
def test_caption_time_and_position_all_matter(network: VideoTransformer) -> None:
    x, t, words = inputs(network)
    before = network(x, t, words)
    assert (network(x, t, words.roll(1, 0)) - before).abs().max() > 1e-4
    assert (network(x, t.flip(0), words) - before).abs().max() > 1e-4
    shuffled = network(x.flip(1), t, words).flip(1)
    assert (shuffled - before).abs().max() > 1e-4  # without positions this would be an equality


@torch.no_grad()
def test_a_sample_does_not_depend_on_its_neighbours_in_the_batch(network: VideoTransformer) -> None:
    x, t, words = inputs(network)
    torch.testing.assert_close(network(x, t, words)[:1], network(x[:1], t[:1], words[:1]), rtol=1e-4, atol=1e-5)


def test_codec_keeps_what_the_verifier_reads(codec: PatchCodec) -> None:
    clips, scenes = zip(*((clip, shapes.parse(text)) for text, clip in (training_clip(5, i) for i in range(150))))
    latents = codec.encode(torch.from_numpy(np.stack(clips)))
    assert latents.square().mean().item() == pytest.approx(1.0, abs=0.1)
    decoded = codec.decode(latents).numpy()
    strict = [shapes.check(shapes.observe(clip), scene).strict for clip, scene in zip(decoded, scenes)]
    assert np.mean(strict) >= 0.98
    gram = codec.basis.T @ codec.basis
    torch.testing.assert_close(gram, torch.eye(len(gram)), atol=1e-4, rtol=0)


def test_tokens_keep_meaning_and_refuse_strangers() -> None:
    numbers = tokens(CAPTIONS)
    assert numbers.shape == (3, LONGEST)
    assert len({tuple(row.tolist()) for row in numbers}) == 3
    with pytest.raises(DataError, match="'pink'"):
        tokens(["a pink circle moves left"])
    with pytest.raises(DataError, match="shorten"):
        tokens(["red " * (LONGEST + 1)])


def test_no_two_training_scenes_share_their_tokens() -> None:
    rng = np.random.default_rng(0)
    texts = {str(shapes.draw_scene(rng, "train")) for _ in range(3000)}
    assert len({tuple(row) for row in tokens(sorted(texts)).tolist()}) == len(texts)


def test_generator_comes_back_from_its_file_and_repeats_itself(tmp_path: Path, network: VideoTransformer) -> None:
    generator = Generator(network, fit_codec(FLAVOURS["tiny"], seed=0), {"trained": "in a test"})
    sampler = SamplerSettings(steps=3)
    digest = generator.save(tmp_path / "g.safetensors")
    again = Generator.load(tmp_path / "g.safetensors")
    assert again.checkpoint == digest
    assert again.card["trained"] == "in a test"
    first, second = (g.clips(CAPTIONS, [1, 2, 3], sampler) for g in (generator, again))
    assert first.shape == (3, shapes.FRAMES, shapes.SIZE, shapes.SIZE, 3)
    assert (first == second).all()
    assert (first != again.clips(CAPTIONS, [4, 5, 6], sampler)).any()
    assert generator.save(tmp_path / "same.safetensors") == digest


def test_damaged_and_missing_checkpoints_say_what_to_do(tmp_path: Path, network: VideoTransformer) -> None:
    path = tmp_path / "g.safetensors"
    Generator(network, fit_codec(FLAVOURS["tiny"], seed=0), {}).save(path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        Generator.load(path)
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        Generator.load(tmp_path / "absent.safetensors")

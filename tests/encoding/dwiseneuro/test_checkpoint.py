import pytest
import torch

from nwbrecon.encoding.dwiseneuro import read_checkpoint
from nwbrecon.errors import EncoderError


def changed(path, target, **changes):
    content = torch.load(path, weights_only=True)
    content["params"] = {**content["params"], **changes}
    torch.save(content, target)
    return target


def test_everything_comes_from_the_file(data_folder):
    found = read_checkpoint(data_folder / "small.pth")
    assert found.network.settings.readout_outputs == (11, 14)
    assert found.network.settings.core_features == (12, 12, 24)
    assert (found.n_frames, found.frame_step, found.canvas, found.pad_value) == (16, 2, (64, 64), 0.0)
    assert not found.network.training
    stored = torch.load(data_folder / "small.pth", weights_only=True)["nn_state_dict"]
    loaded = found.network.state_dict()
    assert stored.keys() == loaded.keys()
    assert all(torch.equal(stored[name], loaded[name]) for name in stored)


def test_readouts_can_be_picked(data_folder):
    everything = read_checkpoint(data_folder / "small.pth").network
    picked = read_checkpoint(data_folder / "small.pth", readouts=[1]).network
    assert picked.settings.readout_outputs == (14,)
    inputs = torch.rand(1, 5, 4, 16, 16)
    torch.testing.assert_close(picked(inputs)[0], everything(inputs)[1])
    with pytest.raises(EncoderError, match=r"Readout 2 was asked for.*readouts 0 to 1"):
        read_checkpoint(data_folder / "small.pth", readouts=[2])


def test_the_published_order_of_the_canvas_is_columns_and_rows(data_folder, tmp_path):
    path = changed(
        data_folder / "small.pth",
        tmp_path / "wide.pth",
        inputs_processor=("stack_inputs", {"size": (80, 48), "pad_fill_value": 3}),
    )
    found = read_checkpoint(path)
    assert (found.canvas, found.pad_value) == ((48, 80), 3.0)


class Surprise:
    def __reduce__(self):
        return print, ("executed",)


def test_what_is_no_checkpoint_is_refused_with_the_reason(data_folder, tmp_path, capsys):
    with pytest.raises(EncoderError, match="There is no file"):
        read_checkpoint(tmp_path / "missing.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(EncoderError, match="cannot be read"):
        read_checkpoint(tmp_path / "text.pth")
    torch.save({"params": Surprise()}, tmp_path / "code.pth")
    with pytest.raises(EncoderError, match="cannot be read"):
        read_checkpoint(tmp_path / "code.pth")
    assert "executed" not in capsys.readouterr().out
    torch.save(torch.zeros(3), tmp_path / "array.pth")
    with pytest.raises(EncoderError, match="holds a Tensor"):
        read_checkpoint(tmp_path / "array.pth")
    torch.save({"params": {}}, tmp_path / "empty.pth")
    with pytest.raises(EncoderError, match=r"lacks a part.*nn_module"):
        read_checkpoint(tmp_path / "empty.pth")


def test_another_architecture_is_refused(data_folder, tmp_path):
    source = data_folder / "small.pth"
    settings = torch.load(source, weights_only=True)["params"]["nn_module"][1]
    with pytest.raises(EncoderError, match="holds resnet"):
        read_checkpoint(changed(source, tmp_path / "a.pth", nn_module=("resnet", settings)))
    with pytest.raises(EncoderError, match="settings that are not understood"):
        read_checkpoint(changed(source, tmp_path / "b.pth", nn_module=("dwiseneuro", {**settings, "groups": 0})))
    with pytest.raises(EncoderError, match="weights that do not fit"):
        read_checkpoint(changed(source, tmp_path / "c.pth", nn_module=("dwiseneuro", {**settings, "in_channels": 4})))

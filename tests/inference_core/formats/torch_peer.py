"""PyTorch at the other end of our files.

torch_peer.py write FOLDER: writes checkpoints FOLDER/*.bin and, for each, what is in them:
FOLDER/NAME.bin.expected with a line "tensor dtype shape hex-of-row-major-bytes".
Nothing where PyTorch is not installed.
torch_peer.py read FILE...: prints the same lines of files, after a line with the file's name.
"""

import collections
import pathlib
import sys

try:
    import torch
except ImportError:
    sys.exit(0)


def line(name, tensor):
    size = tensor.numel() * tensor.element_size()
    contents = tensor.detach().clone(memory_format=torch.contiguous_format)
    as_bytes = contents.reshape(-1).view(torch.int16 if contents.element_size() == 2 else torch.int32)
    hexadecimal = as_bytes.numpy().tobytes().hex()
    assert len(hexadecimal) == 2 * size
    shape = ",".join(str(s) for s in tensor.shape)
    return f"{name} {str(tensor.dtype).removeprefix('torch.')} [{shape}] {hexadecimal}\n"


def expected(tensors):
    return "".join(line(name, tensor) for name, tensor in sorted(tensors.items()))


def write(folder):
    torch.manual_seed(3)
    base = torch.randn(6, 8)
    tied = torch.randn(5, 4).bfloat16()
    layer = torch.nn.Linear(3, 2)
    files = {
        "types": {"f32": base, "f16": base.half(), "bf16": base.bfloat16(), "scalar": torch.tensor(2.5),
                  "vector": torch.arange(3.0), "empty": torch.zeros(0, 3)},
        "views": {"transposed": base.t(), "columns": base[:, 2:5], "rows": base[1:4], "every_other": base[::2, ::3],
                  "permuted": torch.randn(2, 3, 4).half().permute(2, 0, 1), "strided_vector": base[:, 1]},
        "shared": {"a": tied, "b": tied, "c": tied[1:3], "d": tied.t()},
        "parameter": {"weight": layer.weight, "bias": layer.bias},
    }
    for name, tensors in files.items():
        (folder / f"{name}.bin.expected").write_text(expected(tensors))
        torch.save(collections.OrderedDict(tensors), folder / f"{name}.bin")
    for protocol in (3, 4, 5):
        torch.save(files["views"], folder / f"protocol{protocol}.bin", pickle_protocol=protocol)
        (folder / f"protocol{protocol}.bin.expected").write_text(expected(files["views"]))
    # A state dict carries attributes; a trainer's checkpoint holds it among other things.
    state = torch.nn.Sequential(layer, torch.nn.Linear(2, 2)).state_dict()
    torch.save(state, folder / "state.bin")
    (folder / "state.bin.expected").write_text(expected(state))
    torch.save({"epoch": 3, "loss": 0.5, "big": 1 << 40, "negative": -7, "names": ["a", ("b", None, True)],
                "steps": torch.arange(4), "mask": torch.ones(2, dtype=torch.bool), "model": state, 7: base},
               folder / "trainer.bin")
    # Refused ones.
    torch.save(files["types"], folder / "old.bin", _use_new_zipfile_serialization=False)
    torch.save({"a": pathlib.PurePosixPath("x")}, folder / "path.bin")
    torch.save([base], folder / "list.bin")
    torch.save({"wide": torch.zeros(1).expand(1000, 1000)}, folder / "expanded.bin")


def read(files):
    for file in files:
        tensors = torch.load(file, weights_only=True)
        assert isinstance(tensors, dict)
        print(file)
        print(expected(tensors), end="")


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(pathlib.Path(sys.argv[2]))
    else:
        read(sys.argv[2:])

"""Makes stored.npz and compressed.npz, which the tests of the npz reader read: python make_npz.py, with NumPy 2."""
import pathlib

import numpy as np

here = pathlib.Path(__file__).parent
values = (np.arange(24, dtype=np.float32) / 8 - 1).reshape(2, 3, 4)
arrays = {
    "c_order": values,
    "fortran_order": np.asfortranarray(values),
    "big_endian": values.astype(">f4"),
    "lengths32": np.array([3, 0, -1], np.int32),
    "lengths64": np.array([1 << 40, 2], np.int64),
    "flags": np.array([True, False]),
    "empty": np.zeros((0, 3), np.float32),
    "single": np.float32(2.5),
    "doubles": values.astype(np.float64),
    "records": np.array([(1, 2.0)], dtype=[("a", "<i4"), ("b", "<f4")]),
}
np.savez(here / "stored.npz", **arrays)
np.savez_compressed(here / "compressed.npz", **arrays)

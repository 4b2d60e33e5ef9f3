//! The journal as a whole: crashes, damage, failing devices, and a dumb model.

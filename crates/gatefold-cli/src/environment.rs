//! The environment that graphics drivers see.
#![allow(
    unsafe_code,
    reason = "setting an environment variable is unsafe; `prepare` says why it is sound there"
)]

/// Gives the process an `XDG_RUNTIME_DIR` where the session has none.
///
/// Listing adapters makes Mesa's device-select layer ask the Wayland server which GPU it shows its windows on, and
/// libwayland complains on stderr when the variable is missing or no absolute path. A folder that does not exist says
/// the same in silence: there is no server. A server named by an absolute `WAYLAND_DISPLAY` is found all the same.
///
/// Must be the first thing in `main`.
pub(crate) fn prepare() {
    const NAME: &str = "XDG_RUNTIME_DIR";
    let usable = std::env::var_os(NAME).is_some_and(|folder| std::path::Path::new(&folder).is_absolute());
    if cfg!(unix) && !usable {
        // SAFETY: no other thread can read or write the environment meanwhile, since none was started yet.
        unsafe { std::env::set_var(NAME, "/nonexistent") };
    }
}

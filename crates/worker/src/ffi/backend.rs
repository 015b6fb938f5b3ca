//! ggml's backends: files that are loaded at run time, the devices in them, and a pool of threads.

use super::{sys, text};
use std::ffi::{CString, c_void};
use std::path::Path;
use std::ptr::NonNull;
use wire::{WireDevice, WireDeviceKind};

/// A loaded backend file. Never unloaded: models and contexts point into it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backend {
    pub(super) reg: NonNull<sys::ggml_backend_reg>,
}

/// One device of a backend.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Device {
    pub(super) dev: NonNull<sys::ggml_backend_device>,
}

impl Backend {
    /// Loads a backend file and makes its devices known. ggml asks the file itself whether this
    /// processor can run it, by code that was compiled without special instructions.
    ///
    /// # Errors
    /// With what ggml or the loader says.
    pub(crate) fn load(file: &Path) -> Result<Self, String> {
        let path =
            CString::new(file.as_os_str().as_encoded_bytes()).map_err(|_| "the path has a zero byte".to_owned())?;
        // SAFETY: the path ends with a zero byte and outlives the call. The file is one of our own
        // build, beside this program.
        let reg = unsafe { sys::ggml_backend_load(path.as_ptr()) };
        NonNull::new(reg).map(|reg| Self { reg }).ok_or_else(|| {
            let said = super::drain_log();
            if said.is_empty() { "this machine can't run it".to_owned() } else { said }
        })
    }

    pub(crate) fn name(self) -> String {
        // SAFETY: `reg` came from ggml's registry and is never unloaded.
        text(unsafe { sys::ggml_backend_reg_name(self.reg.as_ptr()) })
    }

    pub(crate) fn devices(self) -> Vec<Device> {
        // SAFETY: as in `name`; the index is below the count.
        unsafe {
            let count = sys::ggml_backend_reg_dev_count(self.reg.as_ptr());
            (0..count)
                .filter_map(|i| NonNull::new(sys::ggml_backend_reg_dev_get(self.reg.as_ptr(), i)))
                .map(|dev| Device { dev })
                .collect()
        }
    }

    /// The features that the backend's code was compiled with, in its own words (`AVX512_VNNI`).
    pub(crate) fn features(self) -> Vec<String> {
        let Some(address) = self.function(c"ggml_backend_get_features") else { return Vec::new() };
        // SAFETY: ggml documents this name as a function of type `ggml_backend_get_features_t`, which
        // returns a list in static memory that ends with a null name.
        unsafe {
            let get: unsafe extern "C" fn(sys::ggml_backend_reg_t) -> *const sys::ggml_backend_feature =
                std::mem::transmute(address.as_ptr());
            let mut feature = get(self.reg.as_ptr());
            let mut list = Vec::new();
            while !feature.is_null() && !(*feature).name.is_null() {
                let (name, value) = (text((*feature).name), text((*feature).value));
                list.push(if value == "1" { name } else { format!("{name}={value}") });
                feature = feature.add(1);
            }
            list
        }
    }

    pub(super) fn function(self, name: &std::ffi::CStr) -> Option<NonNull<c_void>> {
        // SAFETY: `reg` is alive, the name ends with a zero byte.
        NonNull::new(unsafe { sys::ggml_backend_reg_get_proc_address(self.reg.as_ptr(), name.as_ptr()) })
    }
}

impl Device {
    pub(crate) fn name(self) -> String {
        // SAFETY: devices live as long as their backend, which is never unloaded.
        text(unsafe { sys::ggml_backend_dev_name(self.dev.as_ptr()) })
    }

    pub(crate) fn is_gpu(self) -> bool {
        matches!(self.kind(), WireDeviceKind::Discrete | WireDeviceKind::Integrated | WireDeviceKind::Software)
    }

    fn kind(self) -> WireDeviceKind {
        // SAFETY: as in `name`.
        match unsafe { sys::ggml_backend_dev_type(self.dev.as_ptr()) } {
            sys::GGML_BACKEND_DEVICE_TYPE_CPU => WireDeviceKind::Cpu,
            // ggml has no word for a processor that plays one; its drivers have names.
            sys::GGML_BACKEND_DEVICE_TYPE_GPU | sys::GGML_BACKEND_DEVICE_TYPE_IGPU if self.is_software() => {
                WireDeviceKind::Software
            }
            sys::GGML_BACKEND_DEVICE_TYPE_GPU => WireDeviceKind::Discrete,
            sys::GGML_BACKEND_DEVICE_TYPE_IGPU => WireDeviceKind::Integrated,
            _ => WireDeviceKind::Accelerator,
        }
    }

    fn is_software(self) -> bool {
        let name = self.description().to_lowercase();
        ["llvmpipe", "lavapipe", "swiftshader", "softpipe", "basic render"].iter().any(|word| name.contains(word))
    }

    fn description(self) -> String {
        // SAFETY: as in `name`.
        text(unsafe { sys::ggml_backend_dev_description(self.dev.as_ptr()) })
    }

    /// What the device says of itself; its free memory is that of this moment.
    pub(crate) fn describe(self) -> WireDevice {
        let (mut free, mut total) = (0_usize, 0_usize);
        // SAFETY: as in `name`; both numbers are ours to write.
        unsafe { sys::ggml_backend_dev_memory(self.dev.as_ptr(), &raw mut free, &raw mut total) };
        let bytes = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        WireDevice {
            name: self.name(),
            description: self.description(),
            kind: self.kind(),
            free_bytes: bytes(free),
            total_bytes: bytes(total),
        }
    }

    pub(crate) fn backend(self) -> Option<Backend> {
        // SAFETY: as in `name`.
        NonNull::new(unsafe { sys::ggml_backend_dev_backend_reg(self.dev.as_ptr()) }).map(|reg| Backend { reg })
    }
}

/// One set of threads for all graphs of a context. Without it ggml starts and ends threads for
/// every single graph.
#[derive(Debug)]
pub(crate) struct ThreadPool {
    pub(super) pool: NonNull<sys::ggml_threadpool>,
    pub(super) threads: u32,
    free: unsafe extern "C" fn(sys::ggml_threadpool_t),
}

impl ThreadPool {
    /// `poll`: how long a thread looks for work before it sleeps, in units of about 4 ms; 0: not at all.
    ///
    /// # Errors
    /// When the CPU backend lacks the functions or the threads can't be started.
    pub(super) fn new(cpu: Backend, threads: u32, poll: u32) -> Result<Self, String> {
        let (Some(new), Some(free)) = (cpu.function(c"ggml_threadpool_new"), cpu.function(c"ggml_threadpool_free"))
        else {
            return Err("the CPU backend offers no pool of threads".into());
        };
        let count = i32::try_from(threads).map_err(|_| format!("{threads} threads are too many"))?;
        // SAFETY: ggml documents these names with exactly these types; the parameters are copied during
        // the call, and the returned pool is owned by us alone.
        unsafe {
            let new: unsafe extern "C" fn(*mut sys::ggml_threadpool_params) -> sys::ggml_threadpool_t =
                std::mem::transmute(new.as_ptr());
            let free: unsafe extern "C" fn(sys::ggml_threadpool_t) = std::mem::transmute(free.as_ptr());
            let mut params = sys::ggml_threadpool_params_default(count);
            params.poll = poll;
            let pool = NonNull::new(new(&raw mut params)).ok_or("its threads can't be started")?;
            Ok(Self { pool, threads, free })
        }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        // SAFETY: the pool is ours, and the contexts that used it are gone (they own it).
        unsafe { (self.free)(self.pool.as_ptr()) }
    }
}

//! Adapters: listing them, choosing one, its limits, and drivers that need care.

mod products;

use super::pipeline::{self, Pipeline};
use super::pipeline_cache::{self, PipelineCache};
use super::tuning_file;
use crate::{DeviceChoice, Error};
use gatefold_schedule::Target;
use gatefold_schedule::product::ProductChoice;
use gatefold_schedule::scan::{ScanChoice, Tuning};
use gatefold_shaders::{KernelVariant, Lanes, MAX_PARAMS_BYTES, ParamsFrom, SUBGROUP_LANES};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A GPU that the engine runs on. A cheap handle: clones are the same device.
#[derive(Clone)]
pub struct Gpu(Arc<Inner>, Arc<Target>);

/// Its name, backend and driver.
impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = self.info();
        f.debug_struct("Gpu")
            .field("name", &info.name)
            .field("backend", &info.backend)
            .field("driver", &info.driver_info)
            .finish_non_exhaustive()
    }
}

struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: wgpu::AdapterInfo,
    limits: wgpu::Limits,
    pipelines: Mutex<HashMap<KernelVariant, Arc<Pipeline>>>,
    /// Those that the driver has compiled in this process and earlier ones.
    cache: Option<PipelineCache>,
    /// Whether pipelines were compiled since the cache was saved.
    unsaved: AtomicBool,
    /// Whether the engine opened the device, and so owns its error handlers.
    owned: bool,
    failure: Arc<Mutex<Option<Failure>>>,
    allocated_bytes: AtomicU64,
    memory_limit_bytes: Option<u64>,
    grids: Grids,
}

/// A failure of the device that no call returned.
#[derive(Clone, Debug)]
enum Failure {
    Lost(String),
    Uncaptured(String),
}

/// Options for opening a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuOptions {
    immediates: bool,
    subgroups: bool,
    webgpu_limits: bool,
    memory_limit_bytes: Option<u64>,
    binding_limit_bytes: Option<u64>,
    scan: ScanChoice,
    product: ProductChoice,
    tuned: bool,
}

impl GpuOptions {
    /// Uses everything that the adapter has.
    pub fn new() -> Self {
        GpuOptions {
            immediates: true,
            subgroups: true,
            webgpu_limits: false,
            memory_limit_bytes: None,
            binding_limit_bytes: None,
            scan: ScanChoice::Auto,
            product: ProductChoice::Auto,
            tuned: true,
        }
    }

    /// Uses what [`tune`](crate::devices::tune) found on this machine's adapter in an earlier run, as by default.
    pub fn tuned(mut self, used: bool) -> Self {
        self.tuned = used;
        self
    }

    /// Chooses how scans spread their steps over dispatches; by default as suits the device and each shape. Results of
    /// different strategies differ by rounding.
    pub fn scan(mut self, choice: ScanChoice) -> Self {
        self.scan = choice;
        self
    }

    /// Chooses the kernels that multiply matrices; by default as suits the device and each shape. Results of different
    /// kernels may differ by rounding.
    pub fn product(mut self, choice: ProductChoice) -> Self {
        self.product = choice;
        self
    }

    /// Allows kernels to take their params as immediates, as by default; otherwise they come from a uniform buffer.
    pub fn immediates(mut self, allowed: bool) -> Self {
        self.immediates = allowed;
        self
    }

    /// Allows kernels to share loads within a subgroup, as by default.
    pub fn subgroups(mut self, allowed: bool) -> Self {
        self.subgroups = allowed;
        self
    }

    /// Asks only for the limits that WebGPU promises everywhere, in a browser for example; by default for all that the
    /// adapter has.
    pub fn webgpu_limits(mut self, only: bool) -> Self {
        self.webgpu_limits = only;
        self
    }

    /// Limits the bytes of buffers that the engine holds on the device at a time; no limit by default.
    pub fn memory_limit_bytes(mut self, bytes: Option<u64>) -> Self {
        self.memory_limit_bytes = bytes;
        self
    }

    /// Limits the bytes of a buffer that a kernel can see, below the device's own limit, which is the default.
    pub fn binding_limit_bytes(mut self, bytes: Option<u64>) -> Self {
        self.binding_limit_bytes = bytes;
        self
    }
}

impl Default for GpuOptions {
    fn default() -> Self {
        GpuOptions::new()
    }
}

/// A driver that needs care, and the care it needs.
struct Quirk {
    /// Part of the driver's name, as wgpu gives it.
    driver: &'static str,
    max_loop_iterations: u32,
}

/// Mesa's llvmpipe ends every loop of an invocation once it has run 65,535 iterations, all its loops together, without
/// an error (LP_MAX_TGSI_LOOP_ITERATIONS in its gallivm code).
const QUIRKS: &[Quirk] = &[Quirk { driver: "llvmpipe", max_loop_iterations: 65_535 }];

/// An adapter, as `gatefold devices` lists it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdapterSummary {
    /// The adapter's name.
    pub name: String,
    /// `Vulkan`, `Metal` or `Dx12`.
    pub backend: String,
    /// `discrete GPU`, `integrated GPU`, `virtual GPU`, `software` or `unknown`.
    pub kind: &'static str,
    /// The driver's name and version.
    pub driver: String,
    /// The largest buffer.
    pub max_buffer_bytes: u64,
    /// The largest part of a buffer that a kernel can see.
    pub max_binding_bytes: u64,
    /// Bytes of memory shared by a workgroup.
    pub max_workgroup_bytes: u32,
    /// The most invocations in a workgroup.
    pub max_invocations: u32,
    /// The smallest and the largest subgroup, if the adapter has subgroups.
    pub subgroup_sizes: Option<(u32, u32)>,
    /// Whether kernels share loads within subgroups, which takes subgroups that are always at least eight lanes wide.
    pub shares_loads: bool,
    /// Whether kernels can take parameters as immediates.
    pub immediates: bool,
    /// The iterations after which the driver ends loops, if it does; the planner splits longer ones.
    pub max_loop_iterations: Option<u32>,
    /// Whether `auto` takes it.
    pub taken_by_auto: bool,
}

/// Every adapter of this machine, the best first.
pub fn adapters() -> Vec<AdapterSummary> {
    pollster::block_on(adapters_async())
}

/// [`adapters`] for callers that must not block.
pub async fn adapters_async() -> Vec<AdapterSummary> {
    let adapters = found_adapters().await;
    let auto = adapters.iter().position(|adapter| is_real(&adapter.get_info()));
    adapters.iter().enumerate().map(|(index, adapter)| summary(adapter, Some(index) == auto)).collect()
}

fn summary(adapter: &wgpu::Adapter, taken_by_auto: bool) -> AdapterSummary {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    AdapterSummary {
        backend: info.backend.to_string(),
        kind: kind(info.device_type),
        driver: format!("{} {}", info.driver, info.driver_info).trim().into(),
        max_buffer_bytes: limits.max_buffer_size,
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        max_invocations: limits.max_compute_invocations_per_workgroup,
        subgroup_sizes: features
            .contains(wgpu::Features::SUBGROUP)
            .then_some((info.subgroup_min_size, info.subgroup_max_size)),
        shares_loads: shares_loads(features, &info),
        immediates: has_immediates(features, &limits),
        max_loop_iterations: quirk(&info).map(|quirk| quirk.max_loop_iterations),
        taken_by_auto,
        name: info.name,
    }
}

fn kind(device_type: wgpu::DeviceType) -> &'static str {
    match device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete GPU",
        wgpu::DeviceType::IntegratedGpu => "integrated GPU",
        wgpu::DeviceType::VirtualGpu => "virtual GPU",
        wgpu::DeviceType::Cpu => "software",
        wgpu::DeviceType::Other => "unknown",
    }
}

/// The findings on a device about workgroups that wait for each other; see `grid.rs`.
#[derive(Debug, Default)]
pub(super) struct Grids {
    pub(super) resident: OnceLock<u32>,
    /// The reason why scans take no grid any more.
    pub(super) notice: Mutex<Option<String>>,
}

fn is_real(info: &wgpu::AdapterInfo) -> bool {
    info.device_type != wgpu::DeviceType::Cpu
}

fn quirk(info: &wgpu::AdapterInfo) -> Option<&'static Quirk> {
    QUIRKS.iter().find(|quirk| info.driver.contains(quirk.driver) || info.name.contains(quirk.driver))
}

fn has_immediates(features: wgpu::Features, limits: &wgpu::Limits) -> bool {
    features.contains(wgpu::Features::IMMEDIATES) && limits.max_immediate_size as usize >= MAX_PARAMS_BYTES
}

/// Whether kernels may share loads within a subgroup. The smallest size counts, since a driver may choose a size for
/// each kernel.
fn shares_loads(features: wgpu::Features, info: &wgpu::AdapterInfo) -> bool {
    features.contains(wgpu::Features::SUBGROUP) && info.subgroup_min_size >= SUBGROUP_LANES
}

/// Real GPUs first, discrete before integrated before virtual; software last.
async fn found_adapters() -> Vec<wgpu::Adapter> {
    let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let mut descriptor = wgpu::InstanceDescriptor {
        backends,
        flags: wgpu::InstanceFlags::from_build_config(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    };
    // DXC where its library is found, else FXC, which is slow and limited.
    descriptor.backend_options.dx12.shader_compiler = wgpu::Dx12Compiler::Auto;
    let instance = wgpu::Instance::new(descriptor.with_env());
    let mut adapters = instance.enumerate_adapters(backends).await;
    adapters.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    adapters
}

impl Gpu {
    /// Opens the chosen GPU; `None` if the choice is `cpu`, or `auto` and there is no real GPU.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if a GPU is wanted and none fits; [`Error::Device`] if the driver refuses.
    pub fn request(choice: &DeviceChoice, options: &GpuOptions) -> Result<Option<Gpu>, Error> {
        pollster::block_on(Gpu::request_async(choice, options))
    }

    /// [`Gpu::request`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Gpu::request`].
    pub async fn request_async(choice: &DeviceChoice, options: &GpuOptions) -> Result<Option<Gpu>, Error> {
        if *choice == DeviceChoice::Cpu {
            return Ok(None);
        }
        let adapters = found_adapters().await;
        let found = match choice {
            DeviceChoice::Gpu => adapters.first(),
            DeviceChoice::Named(part) => {
                let part = part.to_lowercase();
                let named = |fits: fn(&str, &str) -> bool| {
                    adapters.iter().find(|adapter| fits(&adapter.get_info().name.to_lowercase(), &part))
                };
                // The whole name first: another may contain it.
                named(|name, part| name == part).or_else(|| named(|name, part| name.contains(part)))
            }
            DeviceChoice::Auto | DeviceChoice::Cpu => {
                adapters.iter().find(|adapter| is_real(&adapter.get_info()))
            }
        };
        match (found, choice) {
            (Some(adapter), _) => Gpu::open(adapter, options).await.map(Some),
            (None, DeviceChoice::Auto) => Ok(None),
            (None, _) => Err(Error::NoAdapter {
                wanted: choice.to_string(),
                found: adapters.iter().map(|adapter| adapter.get_info().name).collect(),
            }),
        }
    }

    /// Opens every adapter of this machine, in the order of [`adapters`]; for one that refuses, its error is returned.
    pub fn each(options: &GpuOptions) -> Vec<Result<Gpu, Error>> {
        pollster::block_on(Gpu::each_async(options))
    }

    /// [`Gpu::each`] for callers that must not block.
    pub async fn each_async(options: &GpuOptions) -> Vec<Result<Gpu, Error>> {
        let mut opened = Vec::new();
        for adapter in &found_adapters().await {
            opened.push(Gpu::open(adapter, options).await);
        }
        opened
    }

    async fn open(adapter: &wgpu::Adapter, options: &GpuOptions) -> Result<Gpu, Error> {
        let wanted = wgpu::Features::SUBGROUP
            | wgpu::Features::IMMEDIATES
            | wgpu::Features::MEMORY_DECORATION_COHERENT
            | pipeline_cache::features();
        let mut features = adapter.features() & wanted;
        features
            .set(wgpu::Features::SUBGROUP, features.contains(wgpu::Features::SUBGROUP) && options.subgroups);
        features.set(
            wgpu::Features::IMMEDIATES,
            features.contains(wgpu::Features::IMMEDIATES) && options.immediates,
        );
        let mut limits = if options.webgpu_limits { wgpu::Limits::default() } else { adapter.limits() };
        if !features.contains(wgpu::Features::IMMEDIATES) {
            limits.max_immediate_size = 0;
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("gatefold"),
            required_features: features,
            required_limits: limits,
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(|error| {
            Error::Device(format!("{}: the driver refuses to open it: {error}", adapter.get_info().name))
        })?;
        let gpu = Gpu::wrap(device, queue, options, true);
        let failure = Arc::clone(&gpu.0.failure);
        gpu.0.device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            remember(&failure, Failure::Uncaptured(error.to_string()));
        }));
        let failure = Arc::clone(&gpu.0.failure);
        gpu.0.device.set_device_lost_callback(move |reason, message| {
            remember(&failure, Failure::Lost(format!("{reason:?} {message}").trim().into()));
        });
        let known = if options.tuned { tuning_file::read(gpu.info()) } else { None };
        known.map_or(gpu.clone(), |tuning| gpu.with_tuning(tuning)).probed_if_wanted().await
    }

    /// The same device with other strategies for scans; what was made on it stays usable.
    pub(crate) fn with_tuning(&self, tuning: Tuning) -> Gpu {
        self.with_target(Target { tuning: Arc::new(tuning), ..Target::clone(&self.1) })
    }

    /// The same device as the planner is to see it.
    pub(super) fn with_target(&self, target: Target) -> Gpu {
        Gpu(Arc::clone(&self.0), Arc::new(target))
    }

    pub(super) fn grids(&self) -> &Grids {
        &self.0.grids
    }

    /// The strategies that scans take, as a checkpoint stores them: the choice, then a line for each that timing found.
    pub(crate) fn scans(&self) -> String {
        format!("{}\n{}", self.1.scan, self.1.tuning)
    }

    /// The same device with the strategies of [`Gpu::scans`], unless its user chose one.
    ///
    /// # Errors
    /// [`Error::Value`] for text that is none; those of a probe, if they are grids.
    pub(crate) fn with_scans(&self, text: &str) -> Result<Gpu, Error> {
        if self.1.scan != ScanChoice::Auto {
            return Ok(self.clone());
        }
        let (choice, tuning) = text.split_once('\n').unwrap_or((text, ""));
        let (choice, tuning) = (choice.parse::<ScanChoice>(), tuning.parse::<Tuning>());
        let (scan, tuning) =
            choice.and_then(|choice| Ok((choice, tuning?))).map_err(|problem| Error::Value {
                what: "the scans of a checkpoint".into(),
                expected: "a choice and a line for each strategy".into(),
                found: problem,
            })?;
        let target = Target { scan, tuning: Arc::new(tuning), ..Target::clone(&self.1) };
        pollster::block_on(self.with_target(target).probed_if_wanted())
    }

    /// The engine on a device that the caller already owns. Its error handlers stay the caller's. Subgroups and
    /// immediates are used if the device has them. Loss of the device is reported by the device's own callback; here
    /// only invalid buffers are seen.
    pub fn from_device(device: wgpu::Device, queue: wgpu::Queue) -> Gpu {
        Gpu::wrap(device, queue, &GpuOptions::new(), false)
    }

    fn wrap(device: wgpu::Device, queue: wgpu::Queue, options: &GpuOptions, owned: bool) -> Gpu {
        let (info, limits, features) = (device.adapter_info(), device.limits(), device.features());
        // A caller's device is the caller's to cache for.
        let cache = if owned { PipelineCache::open(&device, &info) } else { None };
        let subgroups = shares_loads(features, &info);
        let target = Target {
            lanes: if subgroups && options.subgroups { Lanes::Subgroup } else { Lanes::Single },
            params: if has_immediates(features, &limits) && options.immediates {
                ParamsFrom::Immediate
            } else {
                ParamsFrom::Uniform
            },
            software: !is_real(&info),
            max_loop_iterations: quirk(&info).map(|quirk| quirk.max_loop_iterations),
            max_invocations: limits
                .max_compute_invocations_per_workgroup
                .min(limits.max_compute_workgroup_size_x),
            max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
            resident_groups: 0,
            scan: options.scan,
            product: options.product,
            tuning: Arc::default(),
            max_buffer_bytes: limits.max_buffer_size,
            // Kernels count elements in 32 bits.
            max_binding_bytes: limits
                .max_storage_buffer_binding_size
                .min(4 * u64::from(u32::MAX))
                .min(options.binding_limit_bytes.unwrap_or(u64::MAX)),
        };
        let inner = Arc::new(Inner {
            device,
            queue,
            info,
            limits,
            pipelines: Mutex::default(),
            cache,
            unsaved: AtomicBool::new(false),
            owned,
            failure: Arc::default(),
            allocated_bytes: AtomicU64::new(0),
            memory_limit_bytes: options.memory_limit_bytes,
            grids: Grids::default(),
        });
        Gpu(inner, Arc::new(target))
    }

    /// The wgpu device.
    pub fn device(&self) -> &wgpu::Device {
        &self.0.device
    }

    /// The wgpu queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.0.queue
    }

    /// The adapter's name, driver and kind.
    pub fn info(&self) -> &wgpu::AdapterInfo {
        &self.0.info
    }

    /// The device as the planner sees it.
    pub fn target(&self) -> &Target {
        &self.1
    }

    /// Whether its driver computes on the CPU.
    pub fn is_software(&self) -> bool {
        !is_real(&self.0.info)
    }

    /// A one-line description.
    pub fn summary(&self) -> String {
        let info = &self.0.info;
        let driver = format!("{} {}", info.driver, info.driver_info);
        format!("{} ({}, {}, {})", info.name, info.backend, kind(info.device_type), driver.trim())
    }

    pub(crate) fn limits(&self) -> &wgpu::Limits {
        &self.0.limits
    }

    /// The pipeline of a variant, compiled at the first call.
    pub(crate) async fn pipeline(&self, variant: &KernelVariant) -> Result<Arc<Pipeline>, Error> {
        if let Some(found) = lock(&self.0.pipelines).get(variant) {
            return Ok(Arc::clone(found));
        }
        // Compiled outside the lock: a second thread may compile the same kernel, and the first result is kept.
        let cache = self.0.cache.as_ref().map(PipelineCache::raw);
        let compile = || pipeline::compile(self.device(), self.target().params, variant, cache);
        let compiled = Arc::new(self.checked(&format!("kernel {variant}"), 0, compile).await?);
        self.0.unsaved.store(true, Ordering::Relaxed);
        Ok(Arc::clone(lock(&self.0.pipelines).entry(variant.clone()).or_insert(compiled)))
    }

    /// Stores the pipelines compiled since the last call for the next process, if there is a cache on disk.
    pub(crate) fn save_pipelines(&self) {
        if let Some(cache) = self.0.cache.as_ref().filter(|_| self.0.unsaved.swap(false, Ordering::Relaxed)) {
            cache.save();
        }
    }

    /// Runs `work` and returns wgpu's complaints about it as an error.
    pub(crate) async fn checked<T>(
        &self,
        what: &str,
        needed_bytes: u64,
        work: impl FnOnce() -> T,
    ) -> Result<T, Error> {
        self.check_alive()?;
        let device = &self.0.device;
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let value = work();
        let validation = validation.pop().await;
        let internal = internal.pop().await;
        let memory = memory.pop().await;
        if memory.is_some() || validation.is_some() || internal.is_some() {
            self.settle();
        }
        self.check_alive()?;
        match (memory, validation.or(internal)) {
            (Some(_), _) => Err(Error::OutOfMemory { what: what.into(), needed_bytes }),
            (None, Some(error)) => Err(Error::Device(format!("{what}: {error}"))),
            (None, None) => Ok(value),
        }
    }

    /// Checks that the device is still there and that no error occurred outside our calls.
    pub(crate) fn check_alive(&self) -> Result<(), Error> {
        self.poll(wgpu::PollType::Poll);
        match lock(&self.0.failure).clone() {
            None => Ok(()),
            Some(Failure::Lost(message)) => Err(Error::DeviceLost(message)),
            Some(Failure::Uncaptured(message)) => Err(Error::Device(message)),
        }
    }

    /// Waits until the device is idle. wgpu reports a lost device only when it is polled with no work left; until then
    /// it reports only invalid buffers.
    fn settle(&self) {
        self.poll(wgpu::PollType::wait_indefinitely());
    }

    /// Waits until that submission is done. Browsers cannot wait, and hold callers back by themselves.
    pub(crate) fn wait_for(&self, submission: wgpu::SubmissionIndex) -> Result<(), Error> {
        self.poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout: None });
        self.check_alive()
    }

    /// Lets wgpu call back. A caller's device is the caller's to poll, and browsers call back by themselves.
    fn poll(&self, how: wgpu::PollType) {
        if self.0.owned && cfg!(not(target_arch = "wasm32")) {
            // Errors come through the handlers.
            let _ = self.0.device.poll(how);
        }
    }

    /// Notes that a buffer is about to be made, or refuses it.
    pub(crate) fn reserve(&self, what: &str, bytes: u64) -> Result<(), Error> {
        let before = self.0.allocated_bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.0.memory_limit_bytes.is_some_and(|limit| before + bytes > limit) {
            self.release(bytes);
            return Err(Error::OutOfMemory { what: what.into(), needed_bytes: bytes });
        }
        Ok(())
    }

    pub(crate) fn release(&self, bytes: u64) {
        self.0.allocated_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn remember(failure: &Mutex<Option<Failure>>, new: Failure) {
    lock(failure).get_or_insert(new); // the first failure explains the ones that follow
}

/// No holder of these locks can leave them half changed, so a panic elsewhere does not spoil them.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plans are made without wgpu, from numbers of their own.
    #[test]
    fn the_planner_knows_webgpu_s_default_limits() {
        let (target, limits) = (Target::webgpu(), wgpu::Limits::default());
        assert_eq!(target.max_buffer_bytes, limits.max_buffer_size);
        assert_eq!(target.max_invocations, limits.max_compute_invocations_per_workgroup);
        assert_eq!(target.max_workgroup_bytes, limits.max_compute_workgroup_storage_size);
        assert_eq!(target.max_binding_bytes, limits.max_storage_buffer_binding_size);
        assert_eq!(target.params, ParamsFrom::Uniform);
        assert!(!has_immediates(wgpu::Features::IMMEDIATES, &limits));
    }
}

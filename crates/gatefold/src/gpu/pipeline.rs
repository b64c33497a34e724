//! A kernel and its constants -> a compiled pipeline.
#![allow(unsafe_code, reason = "release builds leave out wgpu's bounds checks, see `module`")]

use super::custom_wgsl;
use gatefold_shaders::{Access, KernelVariant, ParamsFrom};

/// A compiled kernel.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) pipeline: wgpu::ComputePipeline,
    /// The storage buffers.
    pub(crate) layout: wgpu::BindGroupLayout,
    /// The params, if they are not immediates.
    pub(crate) params_layout: Option<wgpu::BindGroupLayout>,
}

/// Compiles a kernel that reads its params from there, or finds it in the driver's cache.
pub(super) fn compile(
    device: &wgpu::Device,
    params: ParamsFrom,
    variant: &KernelVariant,
    cache: Option<&wgpu::PipelineCache>,
) -> Pipeline {
    let (spec, label) = (variant.id.spec(), variant.to_string());
    let params = variant.params_from(params);
    let module = module(device, params, variant, &label);

    let entries: Vec<_> = (0..)
        .zip(spec.bindings)
        .map(|(binding, access)| {
            let storage = wgpu::BufferBindingType::Storage { read_only: *access == Access::Read };
            layout_entry(binding, storage, None)
        })
        .collect();
    let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some(&label),
        entries: &entries,
    });
    let params_layout = (params == ParamsFrom::Uniform).then(|| {
        let entry = layout_entry(0, wgpu::BufferBindingType::Uniform, Some(variant.params_bytes() as u64));
        device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("params"),
            entries: &[entry],
        })
    });
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(&label),
        bind_group_layouts: &match &params_layout {
            Some(params) => vec![Some(&layout), Some(params)],
            None => vec![Some(&layout)],
        },
        immediate_size: if params_layout.is_some() { 0 } else { spec.params_bytes as u32 },
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(&label),
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            zero_initialize_workgroup_memory: false, // every kernel writes before it reads
            ..wgpu::PipelineCompilationOptions::default()
        },
        cache,
    });
    Pipeline { pipeline, layout, params_layout }
}

/// A uniform has `params_bytes` and a dynamic offset; a storage buffer has neither.
fn layout_entry(
    binding: u32,
    kind: wgpu::BufferBindingType,
    params_bytes: Option<u64>,
) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: kind,
            has_dynamic_offset: params_bytes.is_some(),
            min_binding_size: params_bytes.and_then(wgpu::BufferSize::new),
        },
        count: None,
    }
}

fn module(
    device: &wgpu::Device,
    params: ParamsFrom,
    variant: &KernelVariant,
    label: &str,
) -> wgpu::ShaderModule {
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(label),
        source: wgpu::ShaderSource::Wgsl(variant.source(params).into()),
    };
    if bounds_checks() || !custom_wgsl::is_bounded(variant.cell) {
        device.create_shader_module(descriptor)
    } else {
        // SAFETY: every kernel bounds its loops and clamps or guards its indices by its params, and Plan::dispatch
        // refuses params whose extents reach past the buffers. The text of a custom cell has neither loops nor indices. A number that a kernel reads from a buffer and uses as
        // an index is bounded by the length of the array itself. The tests run the same kernels with wgpu's own checks
        // on; without those, loops unroll, and the kernels run several times as fast.
        unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
    }
}

/// Names the environment variable that turns wgpu's bounds checks in kernels `on` or `off`.
const BOUNDS_CHECKS: &str = "GATEFOLD_BOUNDS_CHECKS";

/// Whether wgpu adds its bounds checks to the kernels: in builds with debug assertions, unless [`BOUNDS_CHECKS`] says
/// otherwise. Tests turn them off to run what a release build runs; a user turns them on to look for a driver's fault.
pub(super) fn bounds_checks() -> bool {
    match std::env::var(BOUNDS_CHECKS).as_deref() {
        Ok("on") => true,
        Ok("off") => false,
        _ => cfg!(debug_assertions),
    }
}

//! A GPU's rates, with kernels of their own. Every result is read back and verified, so no driver can leave work out.

use super::{Effort, Rates};
use crate::failure::Failure;
use gatefold::Gpu;
use gatefold::wgpu::{self, BufferUsages};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Workgroups of 64 invocations: enough to fill every GPU many times, and few for a software driver.
const GROUPS: u32 = 1 << 14;
const SOFTWARE_GROUPS: u32 = 1 << 9;
/// Multiply-adds of an invocation in a round of `multiply_add.wgsl`.
const PER_ROUND: u32 = 12 * 16;
/// Keeps the sums exact and the loop below 65,535 iterations, after which Mesa's llvmpipe ends it.
const MOST_ROUNDS: u32 = 1 << 14;
/// The largest buffer that is copied: several times the caches of any GPU in use, with its copy.
const COPIED: u64 = 256 << 20;
/// Vectors that a row of workgroups copies.
const ROW: u64 = 64 * 1024;
const MOST_COPIES: u32 = 1 << 10;
/// Dispatches of the two runs whose difference gives the cost of one.
const FEW_LAUNCHES: u32 = 100;
const MANY_LAUNCHES: u32 = 2100;

/// Long beside the cost of a submission and of waiting for it.
const LONG: Effort = Effort { least: Duration::from_millis(20), repeats: 10 };
/// So short that some fall between the turns of other programs, which share the processor with a software driver.
const SHORT: Effort = Effort { least: Duration::from_millis(2), repeats: 60 };

pub(super) fn measure(gpu: &Gpu) -> Result<Rates, Failure> {
    let work = Work { gpu };
    Ok(Rates { flop_per_s: work.arithmetic()?, bytes_per_s: work.copy()?, launch_s: work.launch()? })
}

struct Work<'a> {
    gpu: &'a Gpu,
}

/// A pipeline and the buffers that it is bound to.
struct Kernel {
    pipeline: wgpu::ComputePipeline,
    buffers: wgpu::BindGroup,
}

impl Work<'_> {
    /// FLOP per second.
    fn arithmetic(&self) -> Result<f64, Failure> {
        let params = self.buffer("rate params", 16, BufferUsages::UNIFORM);
        let (groups, effort) = if self.gpu.is_software() { (SOFTWARE_GROUPS, SHORT) } else { (GROUPS, LONG) };
        let invocations = 64 * groups as usize;
        let sums = self.buffer("rate sums", 4 * invocations as u64, BufferUsages::STORAGE);
        let kernel = self.kernel(include_str!("multiply_add.wgsl"), &[&params, &sums]);
        let rounds = effort.best_rate(MOST_ROUNDS, |rounds| {
            let words = [rounds, 1.0f32.to_bits(), 1.0f32.to_bits(), 0];
            let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
            self.gpu.queue().write_buffer(&params, 0, &bytes);
            let took = self.timed(|encoder| dispatch(encoder, &kernel, 1, [groups, 1]))?;
            let found = self.read(&sums, 0, sums.size())?;
            let want = |at: usize| (12 * (at as u32 % 8) + 12 + PER_ROUND * rounds) as f32;
            let right = (0..).zip(&found).all(|(at, &bits)| f32::from_bits(bits) == want(at));
            self.verified(right && found.len() == invocations, "sums of multiply-adds").map(|()| took)
        })?;
        Ok(rounds * 2.0 * f64::from(PER_ROUND) * invocations as f64)
    }

    /// Bytes per second, read and written: the better of a kernel and the driver's own copy.
    fn copy(&self) -> Result<f64, Failure> {
        let target = self.gpu.target();
        let vectors = COPIED.min(target.max_binding_bytes).min(target.max_buffer_bytes) / 16;
        let vectors = vectors / ROW * ROW;
        let usage = BufferUsages::STORAGE;
        let (a, b) = (self.buffer("rate a", 16 * vectors, usage), self.buffer("rate b", 16 * vectors, usage));
        let source = include_str!("copy.wgsl");
        let (forth, back) = (self.kernel(source, &[&a, &b]), self.kernel(source, &[&b, &a]));
        let groups = [(ROW / 64) as u32, (vectors / ROW) as u32];
        let mut done = 0;
        let kernels = LONG.best_rate(MOST_COPIES, |pairs| {
            let took = self.timed(|encoder| {
                for _ in 0..pairs {
                    dispatch(encoder, &forth, 1, groups);
                    dispatch(encoder, &back, 1, groups);
                }
            })?;
            done += 2 * pairs;
            self.holds(&a, done).map(|()| took)
        })?;
        // b has one copy fewer than a, until it is overwritten.
        self.holds(&b, done - 1)?;
        let copies = LONG.best_rate(MOST_COPIES, |copies| {
            let took = self.timed(|encoder| {
                (0..copies).for_each(|_| encoder.copy_buffer_to_buffer(&a, 0, &b, 0, a.size()));
            })?;
            self.holds(&b, done).map(|()| took)
        })?;
        Ok(2.0 * a.size() as f64 * copies.max(2.0 * kernels))
    }

    /// Seconds for a dispatch that depends on the one before, all in one submission.
    fn launch(&self) -> Result<f64, Failure> {
        let count = self.buffer("rate count", 4, BufferUsages::STORAGE);
        let kernel = self.kernel(include_str!("count.wgsl"), &[&count]);
        let mut done = 0;
        let mut shortest = |launches: u32| -> Result<f64, Failure> {
            let mut best = f64::INFINITY;
            for _ in 0..LONG.repeats {
                let took = self.timed(|encoder| dispatch(encoder, &kernel, launches, [1, 1]))?;
                done += launches;
                self.verified(self.read(&count, 0, 4)? == [done], "the count of dispatches")?;
                best = best.min(took.as_secs_f64());
            }
            Ok(best)
        };
        let (few, many) = (shortest(FEW_LAUNCHES)?, shortest(MANY_LAUNCHES)?);
        let launch = (many - few) / f64::from(MANY_LAUNCHES - FEW_LAUNCHES);
        let positive = (launch > 0.0).then_some(launch);
        positive.ok_or_else(|| {
            Failure::failed("2100 dispatches took no longer than 100: the clock is too coarse")
        })
    }

    fn buffer(&self, label: &str, size: u64, usage: BufferUsages) -> wgpu::Buffer {
        self.gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage: usage | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }

    fn kernel(&self, source: &str, buffers: &[&wgpu::Buffer]) -> Kernel {
        let device = self.gpu.device();
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("rate"),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("rate"),
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let entries = (0..).zip(buffers);
        let entries: Vec<_> = entries
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let buffers = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("rate"),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        Kernel { pipeline, buffers }
    }

    /// The time from the submission of what is recorded until the device is done.
    fn timed(&self, record: impl FnOnce(&mut wgpu::CommandEncoder)) -> Result<Duration, Failure> {
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        record(&mut encoder);
        let commands = encoder.finish();
        self.wait()?; // uploads before it are not timed
        let begin = Instant::now();
        self.gpu.queue().submit([commands]);
        self.wait()?;
        Ok(begin.elapsed())
    }

    fn wait(&self) -> Result<(), Failure> {
        let waited = self.gpu.device().poll(wgpu::PollType::wait_indefinitely());
        waited.map(drop).map_err(|error| Failure::failed(format!("measuring rates: {error}")))
    }

    /// The words of `bytes` bytes of a buffer.
    fn read(&self, buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> Result<Vec<u32>, Failure> {
        let staging = self.gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some("rate read-back"),
            size: bytes,
            usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, bytes);
        self.gpu.queue().submit([encoder.finish()]);
        let (sender, mapped) = channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // Nobody listens any more if waiting has failed, which is reported.
            let _ = sender.send(result);
        });
        self.wait()?;
        let failed = |problem: String| Failure::failed(format!("reading a rate's result: {problem}"));
        mapped
            .recv()
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))?;
        let view = staging.get_mapped_range(..).map_err(|error| failed(error.to_string()))?;
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        Ok(view.chunks_exact(4).map(word).collect())
    }

    /// Checks the first, the middle and the last 64 KiB of a large buffer.
    fn holds(&self, buffer: &wgpu::Buffer, value: u32) -> Result<(), Failure> {
        let part = 64 << 10;
        for offset in [0, (buffer.size() / 2).next_multiple_of(part), buffer.size() - part] {
            let found = self.read(buffer, offset.min(buffer.size() - part), part)?;
            self.verified(found.iter().all(|&found| found == value), "a copy of a buffer")?;
        }
        Ok(())
    }

    fn verified(&self, right: bool, what: &str) -> Result<(), Failure> {
        let wrong =
            || format!("measuring rates: {what} is wrong on {}; see gatefold selfcheck", self.gpu.summary());
        if right { Ok(()) } else { Err(Failure::failed(wrong())) }
    }
}

fn dispatch(encoder: &mut wgpu::CommandEncoder, kernel: &Kernel, times: u32, [x, y]: [u32; 2]) {
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    pass.set_pipeline(&kernel.pipeline);
    pass.set_bind_group(0, &kernel.buffers, &[]);
    (0..times).for_each(|_| pass.dispatch_workgroups(x, y, 1));
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold_check::test_gpu;

    #[test]
    fn a_gpu_has_three_rates() {
        let Some(gpu) = test_gpu() else { return };
        let rates = measure(&gpu).unwrap();
        // Far outside of what devices do: units are confused.
        assert!((1e8..1e15).contains(&rates.flop_per_s), "{rates:?}");
        assert!((1e8..1e14).contains(&rates.bytes_per_s), "{rates:?}");
        assert!((1e-8..1e-2).contains(&rates.launch_s), "{rates:?}");
    }

    #[test]
    fn wrong_results_are_refused() {
        let Some(gpu) = test_gpu() else { return };
        let work = Work { gpu: &gpu };
        let buffer = work.buffer("rate test", 256 << 10, BufferUsages::STORAGE);
        work.holds(&buffer, 0).unwrap();
        gpu.queue().write_buffer(&buffer, (256 << 10) - 4, &[1, 0, 0, 0]);
        let error = work.holds(&buffer, 0).unwrap_err().to_string();
        assert!(error.contains("a copy of a buffer is wrong"), "{error}");
    }
}

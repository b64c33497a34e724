//! Buffers on the device, counted in elements of four bytes; upload and read-back.

use super::Gpu;
use crate::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// A buffer that the engine made. Dropping it releases its bytes.
#[derive(Debug)]
pub(crate) struct DeviceBuffer {
    gpu: Gpu,
    name: String,
    buffer: wgpu::Buffer,
}

impl DeviceBuffer {
    /// A buffer of `len` elements, zero at first.
    pub(crate) async fn new(gpu: &Gpu, name: &str, len: usize) -> Result<Arc<DeviceBuffer>, Error> {
        DeviceBuffer::make(gpu, name, len, None).await
    }

    /// A buffer with these values, written while it is made, so that the queue is left alone.
    pub(crate) async fn with_values(
        gpu: &Gpu,
        name: &str,
        values: &[f32],
    ) -> Result<Arc<DeviceBuffer>, Error> {
        DeviceBuffer::make(gpu, name, values.len(), Some(values)).await
    }

    async fn make(
        gpu: &Gpu,
        name: &str,
        len: usize,
        values: Option<&[f32]>,
    ) -> Result<Arc<DeviceBuffer>, Error> {
        let bytes = bytes(len);
        gpu.target().check_size(name, bytes)?;
        gpu.reserve(name, bytes)?;
        let buffer = gpu
            .checked(name, bytes, || {
                let buffer = gpu.device().create_buffer(&wgpu::BufferDescriptor {
                    label: Some(name),
                    size: bytes,
                    usage: wgpu::BufferUsages::STORAGE
                        | wgpu::BufferUsages::COPY_SRC
                        | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: values.is_some(),
                });
                fill_mapped(&buffer, bytemuck::cast_slice(values.unwrap_or_default())).map(|()| buffer)
            })
            .await;
        match buffer.and_then(|made| made) {
            Ok(buffer) => Ok(Arc::new(DeviceBuffer { gpu: gpu.clone(), name: name.into(), buffer })),
            Err(error) => {
                gpu.release(bytes);
                Err(error)
            }
        }
    }

    /// The number of elements; of one without any, 1.
    pub(crate) fn len(&self) -> usize {
        (self.buffer.size() / 4) as usize
    }

    pub(crate) fn raw(&self) -> &wgpu::Buffer {
        &self.buffer
    }

    /// Writes elements from `offset` on, ahead of the next submission.
    pub(crate) async fn write<T: bytemuck::NoUninit>(
        &self,
        offset: usize,
        values: &[T],
    ) -> Result<(), Error> {
        let content = bytemuck::cast_slice(values);
        let write = || self.gpu.queue().write_buffer(&self.buffer, 4 * offset as u64, content);
        self.gpu.checked(&self.name, content.len() as u64, write).await
    }

    /// Copies `len` elements into another buffer, after the work submitted so far.
    pub(crate) async fn copy_to(
        &self,
        from: usize,
        other: &DeviceBuffer,
        to: usize,
        len: usize,
    ) -> Result<(), Error> {
        if len == 0 {
            return Ok(());
        }
        let copy = || {
            let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
            let offsets = [from, to].map(|at| 4 * at as u64);
            encoder.copy_buffer_to_buffer(&self.buffer, offsets[0], &other.buffer, offsets[1], bytes(len));
            self.gpu.queue().submit([encoder.finish()]);
        };
        self.gpu.checked(&self.name, bytes(len), copy).await
    }

    /// Requests `len` elements from `offset` on, as they are after the work submitted so far.
    pub(crate) async fn request(&self, offset: usize, len: usize) -> Result<PendingRead<'_>, Error> {
        let bytes = bytes(len);
        let (sender, mapped) = mapping();
        let ask = || {
            let staging = self.gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some("read-back"),
                size: bytes,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(&self.buffer, 4 * offset as u64, &staging, 0, bytes);
            self.gpu.queue().submit([encoder.finish()]);
            staging.map_async(wgpu::MapMode::Read, .., move |result| sender.send(result));
            staging
        };
        let staging = self.gpu.checked(&self.name, bytes, ask).await?;
        Ok(PendingRead { buffer: self, staging, mapped, len })
    }

    /// Reads `len` elements from `offset` on.
    pub(crate) async fn read(&self, offset: usize, len: usize) -> Result<Vec<f32>, Error> {
        self.request(offset, len).await?.wait().await
    }

    fn lost_or(&self, message: String) -> Error {
        self.gpu.check_alive().err().unwrap_or(Error::Device(message))
    }
}

/// Elements on their way to the host.
#[derive(Debug)]
pub(crate) struct PendingRead<'a> {
    buffer: &'a DeviceBuffer,
    staging: wgpu::Buffer,
    mapped: Mapped,
    len: usize,
}

impl PendingRead<'_> {
    /// Waits for the elements.
    pub(crate) async fn wait(self) -> Result<Vec<f32>, Error> {
        let PendingRead { buffer, staging, mapped, len } = self;
        let DeviceBuffer { gpu, name, .. } = buffer;
        // Native devices make progress when polled; browsers do so by themselves.
        #[cfg(not(target_arch = "wasm32"))]
        gpu.device()
            .poll(wgpu::PollType::wait_indefinitely())
            .map_err(|error| buffer.lost_or(format!("waiting for {name}: {error}")))?;
        mapped.await.map_err(|error| buffer.lost_or(format!("reading {name}: {error}")))?;
        gpu.check_alive()?;
        let view = staging.get_mapped_range(..);
        let view = view.map_err(|error| buffer.lost_or(format!("reading {name}: {error}")))?;
        let mut values: Vec<f32> = bytemuck::pod_collect_to_vec(&view);
        values.truncate(len);
        Ok(values)
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        self.gpu.release(self.buffer.size());
    }
}

/// Fills a buffer that was mapped when it was made, and unmaps it; does nothing if there is no content.
pub(crate) fn fill_mapped(buffer: &wgpu::Buffer, content: &[u8]) -> Result<(), Error> {
    if content.is_empty() {
        return Ok(());
    }
    let mapped = buffer.get_mapped_range_mut(..content.len() as u64);
    let filled = mapped.map(|mut view| view.slice(..).copy_from_slice(content));
    buffer.unmap();
    filled.map_err(|error| Error::Device(format!("filling a new buffer: {error}")))
}

/// The bytes of `len` elements; of at least one, since a binding cannot be empty.
pub(crate) fn bytes(len: usize) -> u64 {
    4 * len.max(1) as u64
}

/// A result that comes from a callback, as a future.
fn mapping() -> (MapSender, Mapped) {
    let shared = Arc::new(Mutex::new(MapState::default()));
    (MapSender(Arc::clone(&shared)), Mapped(shared))
}

type MapResult = Result<(), wgpu::BufferAsyncError>;

#[derive(Debug, Default)]
struct MapState {
    result: Option<MapResult>,
    waker: Option<Waker>,
}

struct MapSender(Arc<Mutex<MapState>>);
#[derive(Debug)]
struct Mapped(Arc<Mutex<MapState>>);

impl MapSender {
    fn send(self, result: MapResult) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.result = Some(result);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

impl Future for Mapped {
    type Output = MapResult;
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<MapResult> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

//! mimalloc as the allocator of all that is Rust.
//!
//! It is asked for an alignment only where its blocks don't have it anyway. The crate `mimalloc` always asks, and version 3 then
//! gives what is larger than 1 KiB, or finds no free block of its size at once, a block larger than that, which is dearer to
//! give back and touches more memory: a tenth of the CPU time of a small request over HTTP/2.

use libmimalloc_sys::{
    mi_collect, mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};
use std::alloc::{GlobalAlloc, Layout};

#[derive(Debug)]
pub(crate) struct Mimalloc;

/// Has it give memory back to the system that the calling thread has freed, for which it else waits until more is freed.
pub(crate) fn give_back() {
    // SAFETY: may be called at any time.
    unsafe { mi_collect(false) }
}

/// Every block is aligned to 8 bytes, and each of 16 or more to 16 (`MI_MAX_ALIGN_SIZE`).
const fn is_natural(size: usize, align: usize) -> bool {
    align <= 8 || (align == 16 && size >= 16)
}

// SAFETY: mimalloc gives blocks of at least the size that is asked for, aligned as `is_natural` says or as is asked for, null
// where there is no memory; and takes back what it gave whichever of the functions gave it.
unsafe impl GlobalAlloc for Mimalloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: these take any size and any alignment that is a power of two, which a layout's is.
        let block = unsafe { if is_natural(size, align) { mi_malloc(size) } else { mi_malloc_aligned(size, align) } };
        block.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as of `alloc`.
        let block = unsafe { if is_natural(size, align) { mi_zalloc(size) } else { mi_zalloc_aligned(size, align) } };
        block.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller has it from here.
        unsafe { mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let align = layout.align();
        // SAFETY: the caller has it from here; the rest is as of `alloc`.
        let block = unsafe {
            if is_natural(size, align) {
                mi_realloc(block.cast(), size)
            } else {
                mi_realloc_aligned(block.cast(), size, align)
            }
        };
        block.cast()
    }
}

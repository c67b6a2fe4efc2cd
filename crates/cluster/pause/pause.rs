//! The process that holds a pod's namespaces: it reaps what is left to it and exits 0 at once on SIGINT or SIGTERM.
//! No std and no libc, so that it is a few kilobytes, one page of memory, and needs nothing but the Rust toolchain to build.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

const SIGINT: u64 = 2;
const SIGTERM: u64 = 15;
const SIGCHLD: u64 = 17;
const SIG_BLOCK: usize = 0;
const WNOHANG: usize = 1;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const SIGPROCMASK: usize = 14;
    pub const WAIT4: usize = 61;
    pub const SIGTIMEDWAIT: usize = 128;
    pub const EXIT_GROUP: usize = 231;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub const SIGPROCMASK: usize = 135;
    pub const WAIT4: usize = 260;
    pub const SIGTIMEDWAIT: usize = 137;
    pub const EXIT_GROUP: usize = 94;
}

#[cfg(target_arch = "x86_64")]
fn syscall(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result: isize;
    // SAFETY: the kernel reads only the arguments, which the callers keep alive; rcx and r11 are declared as lost.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[cfg(target_arch = "aarch64")]
fn syscall(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result: isize;
    // SAFETY: the kernel reads only the arguments, which the callers keep alive.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result, in("x1") b, in("x2") c, in("x3") d,
            options(nostack));
    }
    result
}

// The kernel enters with the stack aligned to 16 bytes and no return address: a call makes it what a function expects.
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "call {main}", "ud2", main = sym main);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "bl {main}", "brk 1", main = sym main);

extern "C" fn main() -> ! {
    let bit = |signal: u64| 1u64 << (signal - 1);
    let signals = bit(SIGINT) | bit(SIGTERM) | bit(SIGCHLD);
    let set = &raw const signals as usize;
    // Blocked signals reach even the first process of a PID namespace, which ignores those without a handler.
    syscall(number::SIGPROCMASK, SIG_BLOCK, set, 0, 8);
    loop {
        match syscall(number::SIGTIMEDWAIT, set, 0, 0, 8) {
            2 | 15 => {
                syscall(number::EXIT_GROUP, 0, 0, 0, 0);
            }
            17 => while syscall(number::WAIT4, usize::MAX, 0, WNOHANG, 0) > 0 {},
            _ => {}
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {
        syscall(number::EXIT_GROUP, 2, 0, 0, 0);
    }
}

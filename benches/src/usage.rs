//! What a process uses: CPU by the scheduler's own account of its threads, memory by the kernel's.

use std::fs;
use std::time::Duration;

/// Time on a CPU of all threads of `process` that live now.
///
/// # Errors
///
/// The process is gone, or this is no Linux.
pub fn spent(process: u32) -> std::io::Result<Duration> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let account = fs::read_to_string(task?.path().join("schedstat"))?;
        let first = account.split_whitespace().next().unwrap_or("0");
        nanoseconds += first.parse::<u64>().unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Resident memory of `process`, in bytes.
///
/// # Errors
///
/// The process is gone, or this is no Linux.
pub fn resident(process: u32) -> std::io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes
        .map(|kibibytes| kibibytes * 1024)
        .ok_or_else(|| std::io::Error::other("the kernel names no VmRSS of the process"))
}

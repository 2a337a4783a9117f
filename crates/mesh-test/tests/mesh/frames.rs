//! As much of an HTTP/2 server as it takes to leave in the middle of a request, by RFC 9113.

use mesh_core::BoxError;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// HPACK's index of `:status: 200`.
const STATUS_200: u8 = 0x88;

/// The one request of a connection.
pub(crate) struct Stream {
    pub(crate) body: Vec<u8>,
    /// Whether it had a response; else it was beyond a GOAWAY.
    pub(crate) answered: bool,
}

/// Reads one request whole. If it `answers`, the response is 200; else a GOAWAY tells the client
/// that no stream was processed. Then it goes on until the client closes.
pub(crate) async fn carry_one(
    mut io: impl AsyncRead + AsyncWrite + Unpin,
    answers: bool,
) -> Result<Stream, BoxError> {
    let mut preface = vec![0; PREFACE.len()];
    io.read_exact(&mut preface).await?;
    write(&mut io, (SETTINGS, 0, 0), &[]).await?;
    let mut body = Vec::new();
    loop {
        let (kind, flags, id, payload) = read(&mut io).await?;
        match kind {
            SETTINGS if flags & ACK == 0 => write(&mut io, (SETTINGS, ACK, 0), &[]).await?,
            DATA => body.extend(payload),
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            if answers {
                let head = (HEADERS, END_HEADERS | END_STREAM, id);
                write(&mut io, head, &[STATUS_200]).await?;
            } else {
                // Last stream 0, NO_ERROR.
                write(&mut io, (GOAWAY, 0, 0), &[0; 8]).await?;
            }
            break;
        }
    }
    // The answer goes out with the GOAWAY or the end that follows it, so that the next
    // request comes on a connection of its own.
    if answers {
        write(&mut io, (GOAWAY, 0, 0), &[0, 0, 0, 1, 0, 0, 0, 0]).await?;
    }
    io.shutdown().await?;
    Ok(Stream {
        body,
        answered: answers,
    })
}

async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<(u8, u8, u32, Vec<u8>), BoxError> {
    let mut head = [0; 9];
    io.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let id = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
    let mut payload = vec![0; usize::try_from(length)?];
    io.read_exact(&mut payload).await?;
    Ok((head[3], head[4], id, payload))
}

async fn write(
    io: &mut (impl AsyncWrite + Unpin),
    (kind, flags, id): (u8, u8, u32),
    payload: &[u8],
) -> Result<(), BoxError> {
    let length = u32::try_from(payload.len())?.to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(id.to_be_bytes());
    frame.extend(payload);
    io.write_all(&frame).await?;
    Ok(io.flush().await?)
}

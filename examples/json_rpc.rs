//! JSON-RPC 2.0 over one WebSocket: requests, notifications, batches and errors.
//!
//! ```text
//! cargo run --example json_rpc --features json
//! websocat ws://127.0.0.1:3000/rpc
//! {"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}
//! {"jsonrpc": "2.0", "result": 19, "id": 1}
//! ```
//!
//! The calls of a connection run at the same time: a slow call does not hold up the next one, and responses may
//! come in another order. Text that is not JSON is answered with the error -32700. A binary message closes the
//! connection with 1003. The protocol: <https://www.jsonrpc.org/specification>.

use std::{env, time::Duration};

use axum::{Router, routing::get};
use futures_util::{StreamExt, stream::iter};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, from_value, json};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};
use tower_websocket::{
    BoxError, WebSocket, WebSocketLayer,
    json::{JsonError, RecvJsonError},
};

/// The number of calls of a connection that run at the same time. Further messages wait.
const MAX_CALLS: usize = 16;
/// The number of requests in a batch. A short request can have a long response.
const MAX_BATCH: usize = 100;

/// The code and the message of an error.
type Failure = (i32, &'static str);

const PARSE_ERROR: Failure = (-32700, "Parse error");
const INVALID_REQUEST: Failure = (-32600, "Invalid Request");
const METHOD_NOT_FOUND: Failure = (-32601, "Method not found");
const INVALID_PARAMS: Failure = (-32602, "Invalid params");
/// The codes of an application's own errors are -32000 to -32099.
const OUT_OF_RANGE: Failure = (-32000, "Out of range");

/// Calls one method. An application has its methods here.
async fn call(method: &str, params: Value) -> Result<Value, Failure> {
    match method {
        "subtract" => {
            // serde reads a struct from an object and from an array.
            #[derive(Deserialize)]
            struct Params {
                minuend: i64,
                subtrahend: i64,
            }
            let params: Params = read(params)?;
            let difference = params.minuend.checked_sub(params.subtrahend);
            Ok(difference.ok_or(OUT_OF_RANGE)?.into())
        }
        "wait" => {
            let [seconds]: [u8; 1] = read(params)?;
            sleep(Duration::from_secs(seconds.into())).await;
            Ok(seconds.into())
        }
        _ => Err(METHOD_NOT_FOUND),
    }
}

fn read<T: DeserializeOwned>(params: Value) -> Result<T, Failure> {
    from_value(params).map_err(|_| INVALID_PARAMS)
}

fn failed(id: &Value, (code, message): Failure) -> Value {
    json!({ "jsonrpc": "2.0", "error": { "code": code, "message": message }, "id": id })
}

/// Returns the response to a request, or `None` for a notification, which has no `id`.
async fn answer(mut request: Value) -> Option<Value> {
    let params = request.get_mut("params").map(Value::take);
    let id = request.get("id");
    let is_valid = request["jsonrpc"] == "2.0"
        && id.is_none_or(|id| id.is_string() || id.is_number() || id.is_null());
    let outcome = match request["method"].as_str() {
        Some(method) if is_valid => call(method, params.unwrap_or_default()).await,
        _ => return Some(failed(&Value::Null, INVALID_REQUEST)),
    };
    Some(match outcome {
        Ok(result) => json!({ "jsonrpc": "2.0", "result": result, "id": id? }),
        Err(failure) => failed(id?, failure),
    })
}

/// Returns the response to a message: one request, or a batch.
async fn answer_message(message: Value) -> Option<Value> {
    let Value::Array(batch) = message else {
        return answer(message).await;
    };
    if batch.is_empty() || batch.len() > MAX_BATCH {
        return Some(failed(&Value::Null, INVALID_REQUEST));
    }
    let responses: Vec<_> = iter(batch).filter_map(answer).collect().await;
    (!responses.is_empty()).then_some(Value::Array(responses))
}

async fn serve(mut socket: WebSocket) -> Result<(), BoxError> {
    // Dropping the set stops the calls of a client that has left.
    let mut calls = JoinSet::new();
    loop {
        let response = tokio::select! {
            message = socket.recv_json(), if calls.len() < MAX_CALLS => match message {
                Ok(Some(message)) => {
                    calls.spawn(answer_message(message));
                    None
                }
                Ok(None) => return Ok(()),
                Err(RecvJsonError::Json(JsonError::Syntax(_))) => {
                    Some(failed(&Value::Null, PARSE_ERROR))
                }
                Err(error) => return Err(error.into()),
            },
            // A call that panics closes the connection with 1011.
            Some(response) = calls.join_next() => response?,
        };
        if let Some(response) = response {
            socket.send_json(&response).await?;
        }
    }
}

pub(crate) fn app() -> Router {
    Router::new()
        .route("/", get("JSON-RPC 2.0 over a WebSocket at /rpc\n"))
        .route_service("/rpc", WebSocketLayer::new(serve).into_service())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt::init();
    let argument = env::args().nth(1).unwrap_or_else(|| "3000".to_owned());
    let address = match argument.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => argument,
    };
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}/", listener.local_addr()?);
    axum::serve(listener, app()).await?;
    Ok(())
}

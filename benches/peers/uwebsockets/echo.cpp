// An echo under µWebSockets, as its example sets one up; `build` beside it compiles it.

#include <csignal>
#include <cstdio>
#include <string_view>

#include <sys/prctl.h>
#include <sys/resource.h>

#include "App.h"

struct Nothing {};

int main(int count, char **arguments) {
    if (count > 1) {
        // Whoever asks for anything wants to know whether the program is there.
        return arguments[1] == std::string_view("--version") ? 0 : 2;
    }
    // So it ends with the one that started it. A thread that waits for standard input, as the
    // other servers have one, would make the allocator take locks.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }

    bool listens = false;
    uWS::App()
        .ws<Nothing>("/ws", {
            .compression = uWS::DISABLED,
            .maxPayloadLength = 16 * 1024 * 1024,
            .idleTimeout = 0,
            // None, since an answer that is past it would be dropped.
            .maxBackpressure = 0,
            // With no idle timeout, when a Ping is due would come out of an overflow.
            .sendPingsAutomatically = false,
            .message = [](auto *socket, std::string_view message, uWS::OpCode opcode) {
                socket->send(message, opcode);
            },
        })
        .listen("127.0.0.1", 0, [&listens](us_listen_socket_t *socket) {
            if (!socket) return;
            listens = true;
            int port = us_socket_local_port(0, reinterpret_cast<us_socket_t *>(socket));
            std::printf("listening on 127.0.0.1:%d\n", port);
            std::fflush(stdout);
        })
        .run();
    return listens ? 0 : 1;
}

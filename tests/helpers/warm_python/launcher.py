"""What is started as the warm Python: it hands its own start over to the server.

It sends its arguments, folder, environment and standard streams, and passes on signals. It ends
as the forked process does. When it is killed, the server kills that process.
"""

# These modules are part of the interpreter. `socket`, `signal` and `json` would double the time.
import _signal
import _socket
import marshal
import posix
import sys

PASSED_ON = (
    *(_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM),
    *(_signal.SIGUSR1, _signal.SIGUSR2),
)

server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
server.connect(__file__ + ".socket")
start = marshal.dumps((sys.argv[1:], posix.getcwd(), dict(posix.environ)))
streams = b"".join(stream.to_bytes(4, sys.byteorder) for stream in (0, 1, 2))
server.sendmsg([start], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
pid = int(server.recv(64))
for number in PASSED_ON:
    _signal.signal(number, lambda number, frame: posix.kill(pid, number))
# The streams end when the forked process closes them, so they must not stay open here.
null = posix.open("/dev/null", posix.O_RDWR)
for stream in (0, 1, 2):
    posix.dup2(null, stream)
code = int((server.recv(64) or b"-9").split()[0])  # then the peak of its memory
if code < 0:
    if -code != _signal.SIGKILL:
        _signal.signal(-code, _signal.SIG_DFL)
    posix.kill(posix.getpid(), -code)
posix._exit(code)

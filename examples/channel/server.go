// A web server that gets its connections from pmr's own channel: exact round robin, several connections at a time.
//
//	go build -o server examples/channel/server.go && PORT=3000 pmr start ./server -i 4
//
// No packages. The protocol: https://docs.rs/pmr-worker/latest/pmr_worker/protocol
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

var le = binary.LittleEndian

// Channel is a net.Listener whose connections come from pmr.
type Channel struct {
	fd      int
	arrived chan net.Conn
	drain   chan struct{}
	mutex   sync.Mutex
	opened  uint32
	taken   uint64
	token   uint64
}

func (c *Channel) say(kind, small uint16, index uint32, body ...byte) {
	packet := le.AppendUint32(le.AppendUint16(le.AppendUint16(nil, kind), small), index)
	if err := syscall.Sendmsg(c.fd, append(packet, body...), nil, nil, syscall.MSG_NOSIGNAL); err != nil {
		log.Print("pmr does not hear us: ", err)
	}
}

func (c *Channel) tell() { // STATUS
	c.say(4, 0, c.opened, le.AppendUint64(le.AppendUint64(le.AppendUint64(nil, 16), c.taken), c.token)...)
}

func (c *Channel) read() {
	packet, rights := make([]byte, 512), make([]byte, syscall.CmsgSpace(16*4))
	for {
		n, r, _, _, err := syscall.Recvmsg(c.fd, packet, rights, syscall.MSG_CMSG_CLOEXEC)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n == 0 {
			log.Fatal("pmr is gone")
		}
		kind, small, index := le.Uint16(packet), le.Uint16(packet[2:]), le.Uint32(packet[4:])
		c.mutex.Lock()
		switch kind {
		case 130: // UNWELCOME
			log.Fatalf("pmr speaks versions %d to %d", small, index)
		case 131: // LISTENING
			if small != 0 {
				log.Fatal(syscall.Errno(small))
			}
		case 132: // CONNECTIONS
			c.taken = le.Uint64(packet[8*small:])
			c.opened += uint32(small)
		case 133: // SYNC
			c.token = le.Uint64(packet[8:])
		case 134: // DRAIN, which may come twice
			if !c.draining() {
				close(c.drain)
			}
		}
		c.tell()
		c.mutex.Unlock()
		messages, _ := syscall.ParseSocketControlMessage(rights[:r])
		for _, message := range messages {
			files, _ := syscall.ParseUnixRights(&message)
			for _, number := range files {
				file := os.NewFile(uintptr(number), "connection")
				conn, err := net.FileConn(file)
				file.Close()
				if err != nil { // the client has hung up
					c.ended()
					continue
				}
				c.arrived <- &counted{Conn: conn, channel: c}
			}
		}
	}
}

func (c *Channel) ended() {
	c.mutex.Lock()
	c.opened--
	c.tell()
	c.mutex.Unlock()
}

type counted struct {
	net.Conn
	channel *Channel
	once    sync.Once
}

func (c *counted) Close() error {
	c.once.Do(c.channel.ended)
	return c.Conn.Close()
}

// Accept is for net.Listener.
func (c *Channel) Accept() (net.Conn, error) {
	select {
	case conn := <-c.arrived:
		return conn, nil
	case <-c.drain:
		select {
		case conn := <-c.arrived:
			return conn, nil
		default:
			return nil, net.ErrClosed
		}
	}
}

func (c *Channel) draining() bool {
	select {
	case <-c.drain:
		return true
	default:
		return false
	}
}

// Leave waits until the clients have left, but no longer than a second.
func (c *Channel) leave() {
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		c.mutex.Lock()
		opened := c.opened
		c.mutex.Unlock()
		if opened == 0 {
			return
		}
	}
}

// Close is for net.Listener.
func (c *Channel) Close() error { return nil }

// Addr is for net.Listener.
func (c *Channel) Addr() net.Addr { return &net.TCPAddr{} }

func main() {
	port := os.Getenv("PORT")
	if port == "" {
		port = "3000"
	}
	fd, err := strconv.Atoi(os.Getenv("PMR_CHANNEL_FD"))
	if err != nil {
		log.Fatal("start me with pmr")
	}
	syscall.CloseOnExec(fd)
	channel := &Channel{fd: fd, arrived: make(chan net.Conn, 64), drain: make(chan struct{})}
	channel.say(1, 1, 0x31524d50)                      // HELLO
	channel.say(2, 0, 0, []byte("127.0.0.1:"+port)...) // LISTEN
	channel.tell()
	go channel.read()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if channel.draining() { // the client shall open another connection
			w.Header().Set("Connection", "close")
		}
		fmt.Fprintln(w, os.Getpid())
	})}
	server.Serve(channel)
	channel.leave()
	server.Shutdown(context.Background())
	channel.say(7, 0, 0) // DRAINED
}

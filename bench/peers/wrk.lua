-- Goes round the requests of all sessions, whose cookies stand one per line in a file; each thread starts elsewhere.
local threads, requests = 0, {}
turn = 0

function setup(thread)
   thread:set("turn", 7 * threads)
   threads = threads + 1
end

function init(args)
   for cookie in io.lines(args[1]) do
      wrk.headers["Cookie"] = cookie
      requests[#requests + 1] = wrk.format("GET", "/")
   end
end

function request()
   turn = turn % #requests + 1
   return requests[turn]
end

function done(summary)
   local e = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "seconds": %.6f, "connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}\n',
      summary.requests, summary.duration / 1e6, e.connect, e.read, e.write, e.timeout, e.status))
end

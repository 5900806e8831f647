-- Goes round the requests of all sessions, whose cookies stand one per line in a file; each thread starts elsewhere.
-- Arguments: that file, and what the work needs: the path, the method, bytes of body, whether it
-- goes in chunks ("chunked" or "-"), and bytes of further fields.
local threads, requests = 0, {}
turn = 0

function setup(thread)
   thread:set("turn", 7 * threads)
   threads = threads + 1
end

-- What a browser sends beside the cookie of the session: seven more of them, and fields up to so many bytes.
local function padding(size)
   local cookies = {}
   for i = 1, 7 do
      cookies[i] = "name_" .. i .. "=" .. string.rep("v", 40)
   end
   local fields = {
      ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
      ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
      ["Accept-Language"] = "en-GB,en;q=0.9,de;q=0.8",
      ["Accept-Encoding"] = "gzip, deflate, br, zstd",
      ["Referer"] = "https://shop.example/catalogue/shoes?sort=price&page=7",
   }
   local known = #table.concat(cookies, "; ")
   for name, value in pairs(fields) do
      known = known + #name + #value + 4
   end
   for i = 1, 8 do
      fields["X-Field-" .. i] = string.rep("x", math.max(1, math.floor((size - known) / 8) - 13))
   end
   return "; " .. table.concat(cookies, "; "), fields
end

local function chunks(size)
   local part = 16384
   local whole = string.format("%x\r\n%s\r\n", part, string.rep("x", part))
   return string.rep(whole, size / part) .. "0\r\n\r\n"
end

function init(args)
   local path, method, size, chunked, extra = args[2], args[3], tonumber(args[4]), args[5] == "chunked", tonumber(args[6])
   local cookies, fields = "", {}
   if extra > 0 then
      cookies, fields = padding(extra)
   end
   for name, value in pairs(fields) do
      wrk.headers[name] = value
   end
   if chunked then
      wrk.headers["Transfer-Encoding"] = "chunked"
   end
   local body = nil
   if size > 0 and not chunked then
      body = string.rep("x", size)
   end
   for cookie in io.lines(args[1]) do
      wrk.headers["Cookie"] = cookie .. cookies
      local request = wrk.format(method, path, nil, body)
      if chunked then
         request = request .. chunks(size)
      end
      requests[#requests + 1] = request
   end
end

function request()
   turn = turn % #requests + 1
   return requests[turn]
end

function done(summary, latency)
   local e = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "seconds": %.6f, "connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d, "p999": %d}\n',
      summary.requests, summary.duration / 1e6, e.connect, e.read, e.write, e.timeout, e.status, latency:percentile(99.9)))
end

. /tmp/c_env.sh; cd /tmp/c_s; export PYTHONPATH=/work/wt-c
S() { timeout 20 python -m nanoocr serve "$@"; echo "rc $?"; }
echo two; S --port=8123
echo host; S --host=nowhere.invalid; S --host=256.1.1.1; S --port=70000; S --port=80x; S --host=
echo v6; (timeout -s INT 12 python -m nanoocr serve --host=::1 --port=8130 & sleep 8; curl -sg 'http://[::1]:8130/health'; curl -sg 'http://localhost:8130/ready'; wait); 
echo keys; S --api_key_file=/nope --port=8131; : > ek; S --api_key_file=ek --port=8131; head -c 100 /dev/urandom > rk; S --api_key_file=rk --port=8131; S --api_key_file=/tmp --port=8131; S --api_key_file= --port=8131
echo model; S --model=/nope --port=8131; S --device=cuda --port=8131; S --dtype=int8 --port=8131; S --threads=99 --port=8131; S --max_queue=0 --port=8131; S --timeout_s=99999999999 --port=8131; S --max_body_mb=999999999 --port=8131 & sleep 8; kill %1; wait
echo privport; setpriv --reuid=65534 true 2>/dev/null; S --allow_fetch= --port=8131; S --allow_fetch=127.0.0.1 --port=8131 & sleep 7; curl -s localhost:8131/health; pkill -P $$ -f 8131; wait
